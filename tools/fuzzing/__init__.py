"""Attacks readers and commands with damaged inputs, long lines and kills; tools/fuzz.py runs it."""
