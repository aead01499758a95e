//! What is asked of an S3 store for each object: encryption of all, storage class and tags of segments.
//!
//! Manifests, pages and the state keep the bucket's default class: they are small, and are read and written often.

use std::sync::Arc;

use object_store::{Attribute, Attributes, TagSet};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Purpose, StoreError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectSettings {
    /// Of segments, as S3 names it.
    pub storage_class: Option<Arc<str>>,
    /// Of segments: `name=value`, separated by commas.
    pub tags: Option<Arc<str>>,
    /// Of all: AES256 or aws:kms.
    pub encryption: Option<Arc<str>>,
    pub kms_key_id: Option<Arc<str>>,
}

impl ObjectSettings {
    pub fn attributes(&self, purpose: Purpose) -> Attributes {
        let mut attributes = Attributes::new();
        if let (Purpose::Upload, Some(class)) = (purpose, &self.storage_class) {
            attributes.insert(Attribute::StorageClass, class.to_string().into());
        }
        attributes
    }

    pub fn tags(&self, purpose: Purpose) -> TagSet {
        let mut set = TagSet::default();
        if purpose == Purpose::Upload {
            for tag in self.tags.as_deref().unwrap_or_default().split(',') {
                if let Some((name, value)) = tag.split_once('=') {
                    set.push(name.trim(), value.trim());
                }
            }
        }
        set
    }

    /// As headers of a PUT that does not go through the client.
    pub fn headers(&self, purpose: Purpose) -> Result<HeaderMap, StoreError> {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            let value = HeaderValue::from_str(value).map_err(|_| StoreError::Invalid {
                what: format!("\"{value}\" cannot be sent as {name}"),
            })?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<_, StoreError>(())
        };
        if purpose == Purpose::Upload {
            if let Some(class) = &self.storage_class {
                set("x-amz-storage-class", class)?;
            }
            let tags = self.tags(purpose);
            if !tags.is_empty() {
                set("x-amz-tagging", tags.encoded())?;
            }
        }
        if let Some(encryption) = &self.encryption {
            set("x-amz-server-side-encryption", encryption)?;
        }
        if let Some(key) = &self.kms_key_id {
            set("x-amz-server-side-encryption-aws-kms-key-id", key)?;
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_alone_have_a_class_and_tags_and_all_are_encrypted() {
        let settings = ObjectSettings {
            storage_class: Some("STANDARD_IA".into()),
            tags: Some("team=log s, tier = cold".into()),
            encryption: Some("AES256".into()),
            kms_key_id: None,
        };
        let of = |purpose| {
            let headers = settings.headers(purpose).expect("valid");
            let text = |name: &str| {
                headers
                    .get(name)
                    .map(|v| v.to_str().expect("text").to_owned())
            };
            (
                text("x-amz-storage-class"),
                text("x-amz-tagging"),
                text("x-amz-server-side-encryption"),
            )
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            of(Purpose::Upload),
            (
                text("STANDARD_IA"),
                text("team=log+s&tier=cold"),
                text("AES256")
            )
        );
        assert_eq!(of(Purpose::Manifest), (None, None, text("AES256")));
        assert!(settings.attributes(Purpose::State).is_empty());
        assert_eq!(settings.attributes(Purpose::Upload).len(), 1);
        let wrong = ObjectSettings {
            storage_class: Some("A\nB".into()),
            ..ObjectSettings::default()
        };
        assert!(wrong.headers(Purpose::Upload).is_err());
    }
}
