"""The `tfvlad` command: one module a subject, one function a subcommand."""
