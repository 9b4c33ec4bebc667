"""The controllers: watch what is, compare with what is wanted, ask the API for the difference.

Plays cmd/kube-controller-manager and pkg/controller. One controller one file (or one folder where a
controller has several parts). The deciding halves are plain functions from observed objects to
wanted ones; the shells are work queues around them. Start with `manager.ControllerManager`.
"""
