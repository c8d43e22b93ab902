raise RuntimeError("I do not want to be imported")
