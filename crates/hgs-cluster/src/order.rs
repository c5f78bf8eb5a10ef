//! The order of commits, kept by etcd.
