//! Topics of contract v1: `city/v1/{division}/{domain}/{class}/{serial}/…` and `city/v1/{division}/gateway/{serial}/…`.

use core::fmt;

use crate::cri::Cri;

/// A topic of one resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResourceTopic<'a> {
    /// The resource.
    pub resource: Cri,
    /// Its domain, from the class in the code directory: `water`, `traffic`, …
    pub domain: &'a str,
    /// What is sent there.
    pub about: ResourceSubject,
}

/// What is sent of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResourceSubject {
    /// `obs`: live observations.
    Observations,
    /// `event`: alarms and changes of state, raised and cleared.
    Events,
}

impl fmt::Display for ResourceTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.resource;
        let subject = match self.about {
            ResourceSubject::Observations => "obs",
            ResourceSubject::Events => "event",
        };
        write!(f, "city/v1/{}/{}/{}/{}/{subject}", id.division(), self.domain, id.class(), id.serial())
    }
}

/// A topic of the gateway itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayTopic {
    /// The gateway.
    pub gateway: Cri,
    /// What is sent there.
    pub about: GatewaySubject,
}

/// What a gateway sends of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GatewaySubject {
    /// `status`: retained, also its last will.
    Status,
    /// `backfill`: what could not be sent live, of all its resources.
    Backfill,
    /// `gap`: declared loss.
    Gap,
}

impl fmt::Display for GatewayTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self.about {
            GatewaySubject::Status => "status",
            GatewaySubject::Backfill => "backfill",
            GatewaySubject::Gap => "gap",
        };
        write!(f, "city/v1/{}/gateway/{}/{subject}", self.gateway.division(), self.gateway.serial())
    }
}
