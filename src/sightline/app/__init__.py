"""The comparison app: ask several models about one picture and watch them answer. Needs the extra `app`."""
