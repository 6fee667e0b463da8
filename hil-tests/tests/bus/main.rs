//! A bus in trouble: dead, noisy and busy units, refusals inside blocks, pulled adapters, serial servers, shared lines, and
//! servers by others whose limits have to be learnt.
//! Needs: nothing but this workspace; `limits` needs pymodbus, a C compiler and libmodbus (`cargo xtask setup`).

mod limits;
mod line;
mod rig;
mod serial_server;
mod shared;
