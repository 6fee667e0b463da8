//! Topics of contract v1: `city/v1/{division}/{domain}/{class}/{serial}/…`.

use core::fmt;

use crate::cri::Cri;

/// Topic of one resource's live observations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObservationTopic<'a> {
    /// The resource.
    pub resource: Cri,
    /// Its domain, from the class in the code directory: `water`, `traffic`, …
    pub domain: &'a str,
}

impl fmt::Display for ObservationTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.resource;
        write!(f, "city/v1/{}/{}/{}/{}/obs", id.division(), self.domain, id.class(), id.serial())
    }
}

/// Topic of the gateway's retained status, also its last will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusTopic {
    /// The gateway.
    pub gateway: Cri,
}

impl fmt::Display for StatusTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "city/v1/{}/gateway/{}/status", self.gateway.division(), self.gateway.serial())
    }
}
