"""The house that knows Ray: one thin actor per Kubernetes binary, placement, supervision, the
command line. Everything that decides is in `cluster/`; everything that touches the kernel's network
is in `netlab/`; here they are put together.
"""
