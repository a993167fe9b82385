"""Where streams are kept: one folder, named by `store_dir`."""

FILE_NAME = "leafnode.db"
RESERVE_NAME = "leafnode.reserve"
LOCK_NAME = "leafnode.lock"
