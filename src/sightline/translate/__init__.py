"""Other projects' configs → recipes. Nothing is dropped: what has no counterpart is listed with the reason."""
