"""The narrow waist: what a Kubernetes object is, and what may be done to one. No I/O, no state.

Plays k8s.io/api, k8s.io/apimachinery and the pure half of pkg/registry: catalogue of resources,
schemas per version, quantities, selectors, errors, patches, server-side apply, defaults,
validation, tables. Every other room may import this one; it imports none.
"""
