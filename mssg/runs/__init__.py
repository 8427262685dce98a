"""Run folders, read without torch or numpy while a training may be writing; only `mssg.training` writes."""
