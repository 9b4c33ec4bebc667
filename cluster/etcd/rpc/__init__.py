"""etcd v3 messages, generated from etcd.proto (`make proto`)."""
