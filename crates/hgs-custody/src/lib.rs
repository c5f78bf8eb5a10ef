//! Private keys as places where work is done: software keys, PFX and PEM.
