//! Peers: programs that talk to the daemon, started and ended by pid.

pub mod mosquitto;
