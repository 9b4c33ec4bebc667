"""The admission plugins, each by itself and in their chain."""
