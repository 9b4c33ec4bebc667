"""One verb one file: what each does to a resource. Plays k8s.io/apiserver/pkg/endpoints/handlers
and generic/registry."""
