"""The Prepare half of the strategies: what the server sets on create and keeps on update.

Plays PrepareForCreate and PrepareForUpdate of pkg/registry/*/strategy.go. Validation is next door.
"""
