//! A strict reader of Prometheus' text format: what a scraper would refuse, or read differently, is an error here.

use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

/// One sample: its name, labels and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// A whole page, by the names of its families.
#[derive(Clone, Debug, Default)]
pub struct Exposition(pub BTreeMap<String, Family>);

impl Exposition {
    /// Reads a page and checks it: every family has help and a type before its samples and stands in one piece; names are
    /// names; no series comes twice; counters end in `_total` and are not negative; histograms are cumulative and whole.
    pub fn parse(page: &str) -> Result<Self, String> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current: Option<String> = None;
        let mut series = BTreeSet::new();
        if !page.is_empty() && !page.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for line in page.lines() {
            let fail = |what: &str| format!("{what}: {line}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| fail("no help"))?;
                let family = Family {
                    help: help.to_owned(),
                    ..Family::default()
                };
                if !is_name(name) || families.insert(name.to_owned(), family).is_some() {
                    return Err(fail("a bad name, or a family in two pieces"));
                }
                current = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| fail("no type"))?;
                let family = families
                    .get_mut(name)
                    .filter(|_| current.as_deref() == Some(name))
                    .ok_or_else(|| fail("a type without help before it"))?;
                if !matches!(kind, "counter" | "gauge" | "histogram") || !family.kind.is_empty() {
                    return Err(fail("an unknown or second type"));
                }
                family.kind = kind.to_owned();
            } else if line.starts_with('#') || line.is_empty() {
                return Err(fail("a line that is neither help, type nor sample"));
            } else {
                let sample = sample(line).ok_or_else(|| fail("no sample"))?;
                let name = current.as_deref().ok_or_else(|| fail("no family"))?;
                let family = families.get_mut(name).expect("it was put in above");
                let suffix = sample.name.strip_prefix(name);
                let fits = match family.kind.as_str() {
                    "histogram" => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
                    "" => false,
                    _ => suffix == Some(""),
                };
                if !fits {
                    return Err(fail("a sample outside of its family"));
                }
                if !series.insert((sample.name.clone(), sample.labels.clone())) {
                    return Err(fail("a series that comes twice"));
                }
                family.samples.push(sample);
            }
        }
        for (name, family) in &families {
            family.check(name)?;
        }
        Ok(Self(families))
    }

    /// The sum of the samples of that name that have all the labels; nothing when there is none.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self
            .0
            .values()
            .flat_map(|family| &family.samples)
            .filter(|sample| {
                sample.name == name
                    && labels.iter().all(|(label, value)| {
                        sample.labels.get(*label).map(String::as_str) == Some(*value)
                    })
            })
            .peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }

    /// As [`Self::find`]; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }
}

impl Family {
    fn check(&self, name: &str) -> Result<(), String> {
        let all = |holds: fn(&Sample) -> bool| self.samples.iter().all(holds);
        let fine = match self.kind.as_str() {
            "counter" => name.ends_with("_total") && all(|s| s.value >= 0.0 && s.value.is_finite()),
            "gauge" => all(|s| !s.value.is_nan()),
            "histogram" => return self.check_histogram(name),
            _ => false,
        };
        match fine {
            true => Ok(()),
            false => Err(format!(
                "{name} is no good {}: {:?}",
                self.kind, self.samples
            )),
        }
    }

    fn check_histogram(&self, name: &str) -> Result<(), String> {
        let mut by_series: BTreeMap<Labels, [Vec<(f64, f64)>; 3]> = BTreeMap::new();
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le");
            let parts = by_series.entry(labels).or_default();
            match (sample.name.rsplit('_').next(), bound) {
                (Some("bucket"), Some(bound)) => {
                    let bound = number(&bound).ok_or(format!("{name}: le={bound}"))?;
                    parts[0].push((bound, sample.value));
                }
                (Some("sum"), None) => parts[1].push((0.0, sample.value)),
                (Some("count"), None) => parts[2].push((0.0, sample.value)),
                _ => return Err(format!("{name}: {sample:?}")),
            }
        }
        for (labels, [buckets, sum, count]) in by_series {
            let rising = buckets
                .windows(2)
                .all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
            let whole = match (&sum[..], &count[..], buckets.last()) {
                ([(_, sum)], [(_, count)], Some((bound, last))) => {
                    *bound == f64::INFINITY && last == count && *sum >= 0.0
                }
                _ => false,
            };
            if !rising || !whole {
                return Err(format!("{name}{labels:?} is no histogram"));
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().enumerate().all(|(at, c)| {
            c.is_ascii_alphabetic() || c == '_' || c == ':' || at > 0 && c.is_ascii_digit()
        })
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ => text.parse().ok(),
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end_of_name = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end_of_name);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at + 1,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        _ => return None,
                    }),
                    (_, c) => value.push(c),
                }
            };
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            rest = &quoted[end..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = number(rest.strip_prefix(' ')?)?;
    is_name(name).then(|| Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\\\\\"} 3\na_total 4\n\
        # HELP h_seconds Seconds.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"0.1\"} 1\n\
        h_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 7.5\nh_seconds_count 2\n";

    #[test]
    fn a_good_page_is_read() {
        let page = Exposition::parse(GOOD).expect("good");
        assert_eq!(page.find("a_total", &[("x", "1")]), Some(3.0));
        assert_eq!(page.sum("a_total", &[]), 7.0);
        assert_eq!(page.find("a_total", &[("y", "q\"\\")]), Some(3.0));
        assert_eq!(page.find("a_total", &[("x", "2")]), None);
        assert_eq!(page.sum("h_seconds_sum", &[]), 7.5);
    }

    #[test]
    fn what_a_scraper_refuses_is_refused() {
        for (from, to) in [
            ("# TYPE a_total counter\n", ""),
            ("a_total 4", "a_total{x=\"1\",y=\"q\\\"\\\\\"} 4"),
            ("a_total 4", "a_total -4"),
            ("a_total 4", "b_total 4"),
            ("a_total 4", "a_total four"),
            ("h_seconds_count 2", "h_seconds_count 3"),
            ("{le=\"0.1\"} 1", "{le=\"0.1\"} 5"),
            ("h_seconds_sum 7.5\n", ""),
            ("counter", "count"),
            ("count 2\n", "count 2"),
        ] {
            let bad = GOOD.replacen(from, to, 1);
            assert_ne!(bad, GOOD);
            assert!(Exposition::parse(&bad).is_err(), "{bad}");
        }
    }
}
