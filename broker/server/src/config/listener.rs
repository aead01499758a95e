//! Listeners: where the broker listens, and under which address clients are told to come back.

use std::collections::BTreeMap;

/// One endpoint of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Upper case, as Kafka normalises it.
    pub name: String,
    /// Empty: all interfaces.
    pub host: String,
    pub port: u16,
    pub advertised_host: String,
    pub advertised_port: u16,
    pub security_protocol: String,
}

/// Why the listeners cannot be used; the text says what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerError {
    #[error("{config}: \"{entry}\" is not of the form NAME://host:port")]
    Malformed { config: &'static str, entry: String },
    #[error("{config}: the listener name {name} is given twice")]
    Duplicate { config: &'static str, name: String },
    #[error("listener.security.protocol.map has no entry for the listener {0}")]
    NoProtocol(String),
    #[error(
        "listener {name} asks for {protocol}; this version serves PLAINTEXT only: \
         map it to PLAINTEXT in listener.security.protocol.map, or remove it"
    )]
    UnsupportedProtocol { name: String, protocol: String },
    #[error("advertised.listeners: {0} is not among the listeners")]
    NotListening(String),
    #[error(
        "listeners: no listener is left for clients; name at least one, such as PLAINTEXT://127.0.0.1:9092"
    )]
    None,
}

/// The config values that the listeners are made of.
#[derive(Clone, Copy, Debug)]
pub struct ListenerValues<'a> {
    pub listeners: &'a str,
    pub advertised_listeners: Option<&'a str>,
    pub security_protocol_map: &'a str,
    pub controller_listener_names: Option<&'a str>,
    /// Advertised for a listener on all interfaces when nothing else is said.
    pub hostname: &'a str,
}

/// Joins `listeners`, `advertised.listeners` and the protocol map. Controller listeners are left out: the metadata
/// quorum of a single node needs no socket.
pub fn parse_listeners(values: ListenerValues<'_>) -> Result<Vec<Listener>, ListenerError> {
    let protocols = parse_protocol_map(values.security_protocol_map)?;
    let controllers: Vec<String> = words(values.controller_listener_names.unwrap_or(""))
        .map(str::to_ascii_uppercase)
        .collect();
    let mut advertised = endpoints(
        "advertised.listeners",
        values.advertised_listeners.unwrap_or(""),
    )?;
    let mut listeners = Vec::new();
    for (name, (host, port)) in endpoints("listeners", values.listeners)? {
        if controllers.contains(&name) {
            advertised.remove(&name);
            continue;
        }
        let protocol = protocols
            .get(&name)
            .ok_or_else(|| ListenerError::NoProtocol(name.clone()))?;
        if protocol != "PLAINTEXT" {
            return Err(ListenerError::UnsupportedProtocol {
                name,
                protocol: protocol.clone(),
            });
        }
        let told = advertised.remove(&name);
        let advertised_port = told.as_ref().map_or(port, |(_, port)| *port);
        let advertised_host = match told {
            Some((host, _)) if !host.is_empty() => host,
            _ if is_wildcard(&host) => values.hostname.to_owned(),
            _ => host.clone(),
        };
        listeners.push(Listener {
            name,
            host,
            port,
            advertised_host,
            advertised_port,
            security_protocol: protocol.clone(),
        });
    }
    if let Some(name) = advertised
        .into_keys()
        .find(|name| !controllers.contains(name))
    {
        return Err(ListenerError::NotListening(name));
    }
    if listeners.is_empty() {
        return Err(ListenerError::None);
    }
    Ok(listeners)
}

fn is_wildcard(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn parse_protocol_map(map: &str) -> Result<BTreeMap<String, String>, ListenerError> {
    words(map)
        .map(|entry| {
            let (name, protocol) =
                entry
                    .split_once(':')
                    .ok_or_else(|| ListenerError::Malformed {
                        config: "listener.security.protocol.map",
                        entry: entry.to_owned(),
                    })?;
            Ok((
                name.trim().to_ascii_uppercase(),
                protocol.trim().to_ascii_uppercase(),
            ))
        })
        .collect()
}

type Endpoints = BTreeMap<String, (String, u16)>;

fn endpoints(config: &'static str, list: &str) -> Result<Endpoints, ListenerError> {
    let mut all = Endpoints::new();
    for entry in words(list) {
        let malformed = || ListenerError::Malformed {
            config,
            entry: entry.to_owned(),
        };
        let (name, address) = entry.split_once("://").ok_or_else(malformed)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |rest| rest.strip_suffix(']'))
            .ok_or_else(malformed)?;
        let name = name.to_ascii_uppercase();
        if all.insert(name.clone(), (host.to_owned(), port)).is_some() {
            return Err(ListenerError::Duplicate { config, name });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT";

    fn parse(
        listeners: &str,
        advertised: Option<&str>,
        controllers: Option<&str>,
    ) -> Result<Vec<Listener>, ListenerError> {
        parse_listeners(ListenerValues {
            listeners,
            advertised_listeners: advertised,
            security_protocol_map: MAP,
            controller_listener_names: controllers,
            hostname: "node-a",
        })
    }

    #[test]
    fn several_listeners_with_their_advertised_addresses() {
        let got = parse(
            "PLAINTEXT://:9092,inside://10.0.0.1:9093,CONTROLLER://:9094",
            Some("INSIDE://broker.example:19093"),
            Some("CONTROLLER"),
        )
        .expect("parses");
        let got: Vec<_> = got
            .iter()
            .map(|l| {
                (
                    l.name.as_str(),
                    l.host.as_str(),
                    l.advertised_host.as_str(),
                    l.advertised_port,
                )
            })
            .collect();
        assert_eq!(
            got,
            [
                ("INSIDE", "10.0.0.1", "broker.example", 19093),
                ("PLAINTEXT", "", "node-a", 9092),
            ]
        );
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let got = parse("PLAINTEXT://[::1]:9092", None, None).expect("parses");
        assert_eq!((got[0].host.as_str(), got[0].port), ("::1", 9092));
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        for (listeners, advertised, text) in [
            ("PLAINTEXT:9092", None, "not of the form"),
            ("SSL://:9092", None, "SSL asks for SSL"),
            ("ODD://:9092", None, "no entry for the listener ODD"),
            ("PLAINTEXT://:1,PLAINTEXT://:2", None, "given twice"),
            (
                "PLAINTEXT://:1",
                Some("INSIDE://x:2"),
                "not among the listeners",
            ),
            ("", None, "no listener is left"),
        ] {
            let err = parse(listeners, advertised, None).expect_err(listeners);
            assert!(err.to_string().contains(text), "{listeners}: {err}");
        }
    }
}
