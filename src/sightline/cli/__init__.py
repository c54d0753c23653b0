"""The command line: `sightline COMMAND`, one file a command, each with `run(argv) -> exit code`.

Start at `main.py`: the table of commands, and errors → exit codes. Nothing heavy is imported before a command is known.
"""
