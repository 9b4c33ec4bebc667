"""Names of users and groups that mean something: k8s.io/apiserver/pkg/authentication/user."""

ANONYMOUS = "system:anonymous"
ALL_AUTHENTICATED = "system:authenticated"
ALL_UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
NODES = "system:nodes"
NODE_PREFIX = "system:node:"
ALL_SERVICE_ACCOUNTS = "system:serviceaccounts"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"

KUBE_PROXY = "system:kube-proxy"
KUBE_CONTROLLER_MANAGER = "system:kube-controller-manager"
KUBE_SCHEDULER = "system:kube-scheduler"
KUBELET_HOST = "system:kubestage:kubelet-host"
KUBELET_HOSTS = "kubestage:kubelet-hosts"
DNS = "system:kubestage:dns"


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """The groups of every service account of a namespace, without system:authenticated."""
    return (ALL_SERVICE_ACCOUNTS, f"{ALL_SERVICE_ACCOUNTS}:{namespace}")


def split_service_account(username: str) -> tuple[str, str] | None:
    """(namespace, name) of system:serviceaccount:NAMESPACE:NAME, or None."""
    if not username.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    parts = username[len(SERVICE_ACCOUNT_PREFIX) :].split(":")
    if len(parts) != 2 or not all(parts):
        return None
    return parts[0], parts[1]


def node_name(user_name: str, groups: tuple[str, ...]) -> str | None:
    """The node that a user is: '' for a member of system:nodes without a node's name, None for
    anybody else (pkg/auth/nodeidentifier)."""
    if not user_name.startswith(NODE_PREFIX) or NODES not in groups:
        return None
    return user_name[len(NODE_PREFIX) :]
