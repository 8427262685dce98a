"""What the explorer's tools do in a real window, run as scenarios.py is. Group: tools, on a geometry."""

from __future__ import annotations

import numpy as np
from scenarios import slider

# --- where pictures are drawn


def tools_device_is_chosen_in_the_menu_and_the_picture_stays(d):
    client = d.app.client
    d.ctx.item_click("//Covariates/free##mode")
    d.ctx.item_input_value(slider("thickness"), 4.25)
    d.settle()
    before, pid, state = client.shown, client.pid, d.state
    assert list(client.devices)[-1] == "cpu" and client.device == "auto"
    d.ctx.menu_click("//##MainMenuBar/View/Device/###device cpu")
    d.wait(lambda: client.device == "cpu" and client.models)
    d.settle()
    assert client.pid != pid and d.state == state and d.app.model.device == "cpu"
    assert client.shown is not before and np.array_equal(client.shown.image, before.image)
    d.ctx.menu_click("//##MainMenuBar/View/Device/###device auto")
    d.wait(lambda: client.device == "auto")
    d.settle()


def tools_stored_picture_is_there_before_the_model(d):
    """As when a window opens: the model is not loaded yet, the picture is on the screen and marked."""
    client = d.app.client
    client.use_device("cpu")
    client.shown, d.app._offered = None, None
    d.frames(2)
    assert client.shown.stored and client.shown.preview and client.shown.request == d.state.request
    d.settle()
    assert not client.shown.stored
    client.use_device("auto")
    d.settle()
