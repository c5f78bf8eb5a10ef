//! The log of measured events (TCG PC Client Platform Firmware Profile 10).
