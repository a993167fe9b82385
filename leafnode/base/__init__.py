"""Small tools without an opinion, shared by broker and agent: they import nothing else of leafnode."""
