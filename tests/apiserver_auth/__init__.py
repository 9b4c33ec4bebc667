"""Who may do what: certificates, identities, RBAC, Node authorization, bootstrap objects."""
