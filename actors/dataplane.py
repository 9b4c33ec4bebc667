"""kube-proxy's plan, handed to netlab: the two houses know nothing of each other."""
