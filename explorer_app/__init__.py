"""The desktop explorer: an imgui-bundle window that never imports torch, and a render process that does."""
