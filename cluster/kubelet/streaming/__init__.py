"""exec, attach and port-forward: the protocols of k8s.io/streaming over a connection taken over.

Plays k8s.io/kubelet/pkg/cri/streaming and k8s.io/apimachinery/pkg/util/httpstream. A session (what
is done) is apart from its channel protocol (how streams share a connection): WebSocket or SPDY/3.1.
"""
