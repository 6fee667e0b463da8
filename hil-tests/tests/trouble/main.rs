//! Trouble, one test or more for each kind: the daemon's program between a simulated site with faults and a broker that
//! can be cut. What must hold is in the names.
//! Needs: the daemon (`cargo build -p ganglion`); for a full disk, root and tmpfs.

mod devices;
mod disk;
mod life;
mod rig;
mod uplink;
