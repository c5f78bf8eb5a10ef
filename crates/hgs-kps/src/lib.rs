//! The Key Protection Service protocol MS-KPS, both roles, as suspended steps.
