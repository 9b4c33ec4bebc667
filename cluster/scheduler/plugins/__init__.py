"""The scheduler's plugins, one upstream package a module. `registry.py` beside this folder makes
them by name."""
