collect_ignore = ["sitecustomize.py", "breakages.py"]
