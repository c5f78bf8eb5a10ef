//! Key protectors of MS-KPS: read, verify, create, grant, revoke, open and roll.
