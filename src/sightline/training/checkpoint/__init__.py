"""What a run leaves on disk: the run folder, checkpoints that resume to the same bits, the finished model.

Start at `run_folder.py`; `files.py` writes and checks checkpoints.
"""
