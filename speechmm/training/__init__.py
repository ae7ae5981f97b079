"""Lightning lives here: module, data module, optimisation, callbacks."""
