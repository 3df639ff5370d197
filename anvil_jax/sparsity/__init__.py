"""Structure of derivatives: which entries can differ from zero, and which are constant."""
