"""What a run leaves for people: curves as pictures, and one self-contained HTML page."""
