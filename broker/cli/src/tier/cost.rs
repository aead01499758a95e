//! What the object store costs a month: a price table over what a broker has counted and what the manifests name.

use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

const MONTH_SECONDS: f64 = 30.0 * 86_400.0;
const GIB: f64 = (1u64 << 30) as f64;

/// In one currency, whichever. The defaults are those of S3 Standard in us-east-1, in USD; reads from outside of the
/// region's network cost more there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// Of 1,000 PUT, COPY, POST or LIST requests, parts too.
    pub write_1000: f64,
    /// Of 1,000 GET and HEAD requests.
    pub read_1000: f64,
    pub storage_gib_month: f64,
    pub read_gib: f64,
}

impl Default for Prices {
    fn default() -> Self {
        Self {
            write_1000: 0.005,
            read_1000: 0.0004,
            storage_gib_month: 0.023,
            read_gib: 0.0,
        }
    }
}

impl FromStr for Prices {
    type Err = String;

    /// `write=0.005,read=0.0004,storage=0.023,transfer=0`; what is not named has its default.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut prices = Self::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, price) = part
                .split_once('=')
                .ok_or_else(|| format!("\"{part}\" is not name=price"))?;
            let place = match name.trim() {
                "write" => &mut prices.write_1000,
                "read" => &mut prices.read_1000,
                "storage" => &mut prices.storage_gib_month,
                "transfer" => &mut prices.read_gib,
                other => {
                    return Err(format!(
                        "no price \"{other}\": write, read, storage, transfer"
                    ));
                }
            };
            *place = price
                .trim()
                .parse()
                .ok()
                .filter(|price: &f64| price.is_finite() && *price >= 0.0)
                .ok_or_else(|| format!("\"{}\" is no price", price.trim()))?;
        }
        Ok(prices)
    }
}

/// Money per month, if it goes on as since the broker's start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    pub storage: f64,
    pub writes: f64,
    pub reads: f64,
    pub total: f64,
    pub write_requests: f64,
    pub read_requests: f64,
}

impl Prices {
    /// `page` is a broker's /tier.
    pub fn cost(&self, stored_bytes: u64, page: Option<&Value>) -> Cost {
        let mut cost = Cost {
            storage: stored_bytes as f64 / GIB * self.storage_gib_month,
            ..Cost::default()
        };
        if let Some(page) = page {
            let ms = |name: &str| page[name].as_f64().unwrap_or_default();
            let seconds = ((ms("now_ms") - ms("counted_since_ms")) / 1e3).max(1.0);
            let monthly = MONTH_SECONDS / seconds;
            for line in lines(page, "requests") {
                let count = line["count"].as_f64().unwrap_or_default() * monthly;
                match line["class"].as_str() {
                    Some("put" | "part" | "list") => cost.write_requests += count,
                    Some("get" | "head") => cost.read_requests += count,
                    // Deletes cost nothing.
                    _ => {}
                }
            }
            let read: f64 = lines(page, "bytes")
                .filter(|line| line["class"] == "get")
                .filter_map(|line| line["count"].as_f64())
                .sum();
            cost.writes = cost.write_requests / 1e3 * self.write_1000;
            cost.reads =
                cost.read_requests / 1e3 * self.read_1000 + read * monthly / GIB * self.read_gib;
        }
        cost.total = cost.storage + cost.writes + cost.reads;
        cost
    }
}

fn lines<'a>(page: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    page[name].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_table_makes_money_of_counts() {
        let page = serde_json::json!({
            "counted_since_ms": 0, "now_ms": 86_400_000,
            "requests": [
                { "class": "put", "count": 1_000 }, { "class": "list", "count": 100 },
                { "class": "get", "count": 10_000 }, { "class": "delete", "count": 5_000 },
            ],
            "bytes": [{ "class": "get", "count": 1u64 << 30 }, { "class": "put", "count": 9_999 }],
        });
        let prices: Prices = "write=0.01, transfer=0.5".parse().expect("valid");
        let cost = prices.cost(100 << 30, Some(&page));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(cost.storage, 2.3), "{cost:?}");
        assert!(near(cost.writes, 30.0 * 1.1 * 0.01), "{cost:?}");
        assert!(near(cost.reads, 30.0 * (10.0 * 0.0004 + 0.5)), "{cost:?}");
        assert!(near(cost.total, cost.storage + cost.writes + cost.reads));
        for wrong in ["write", "write=x", "put=1", "read=-1"] {
            assert!(wrong.parse::<Prices>().is_err(), "{wrong}");
        }
    }
}
