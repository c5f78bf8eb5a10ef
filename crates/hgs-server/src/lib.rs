//! The service: listeners, routes, drivers, rotation, metrics, administration.
