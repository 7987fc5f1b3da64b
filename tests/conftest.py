"""What holds for all tests in Spark's environment."""

import __main__

if not hasattr(__main__, "__file__"):  # PySpark takes a worker of pytest-xdist for a doctest of Connect, and ends it
    __main__.__file__ = __file__
