//! Other entries in the place of some: in the root, in pages, and gaps instead.

use super::*;

const FENCE: Fence = Fence {
    incarnation: 1,
    leader_epoch: 0,
};

/// Entries of ten offsets each, three to a page.
async fn tiered(entries: i64) -> (ManifestStore, tempfile::TempDir) {
    let (store, folder) = folder_store();
    let manifests = manifest_store(&store, 1);
    manifests.claim(FENCE, 0).await.expect("creates");
    for i in 0..entries {
        let edit = append(i * 10, i * 10 + 10);
        manifests
            .edit(FENCE, |_| Ok(vec![edit.clone()]))
            .await
            .expect("appends");
    }
    (manifests, folder)
}

fn again(old: &ManifestEntry) -> ManifestEntry {
    ManifestEntry {
        object: ObjectRef::Segment {
            counter: 200,
            random: 7,
        },
        ..old.clone()
    }
}

async fn lookup(manifests: &ManifestStore, offset: Offset) -> Lookup {
    manifests.forget();
    let manifest = manifests.current().await.expect("loads");
    manifest.check().expect("it holds together");
    manifests.entry_for(&manifest, offset).await.expect("finds")
}

#[tokio::test]
async fn an_object_made_again_takes_the_old_ones_place_wherever_its_entry_is() {
    let (manifests, _folder) = tiered(8).await;
    let m = manifests.current().await.expect("loads");
    assert_eq!((m.pages.len(), m.entries.len()), (2, 2), "{m:?}");
    for start in [0, 10, 20, 50, 60, 70] {
        let old = entry(start, start + 10);
        let new = again(&old);
        let replaced = manifests
            .replace(
                FENCE,
                std::slice::from_ref(&old),
                std::slice::from_ref(&new),
                None,
            )
            .await
            .expect("replaces");
        assert_eq!(replaced.unnamed[0], old.key(&key()));
        assert_eq!(replaced.unnamed.len(), 1 + usize::from(start < 60));
        for offset in [start, start + 9] {
            assert_eq!(lookup(&manifests, offset).await, Lookup::Entry(new.clone()));
        }
        // It is not there any more.
        let e = manifests.replace(FENCE, &[old], &[new], None).await;
        assert!(
            matches!(
                e,
                Err(ManifestStoreError::Edit(ManifestError::NotThere { .. }))
            ),
            "{e:?}"
        );
    }
    let m = manifests.current().await.expect("loads");
    assert_eq!((m.entry_count(), m.end_offset()), (8, 80));
    assert_eq!(lookup(&manifests, 35).await, Lookup::Entry(entry(30, 40)));
}

#[tokio::test]
async fn what_is_lost_becomes_a_gap_and_neighbours_one() {
    let (manifests, _folder) = tiered(8).await;
    // In a page, at its edges, all of it, over the border, in the root, the last.
    for start in [10, 0, 20, 30, 70] {
        let old = entry(start, start + 10);
        let lost = Some(GapCause::LossAccepted);
        manifests
            .replace(FENCE, &[old], &[], lost)
            .await
            .expect("replaces");
        let found = lookup(&manifests, start + 5).await;
        assert!(
            matches!(found, Lookup::Gap(gap) if gap.start <= start && start + 10 <= gap.end),
            "{found:?}"
        );
    }
    let m = manifests.current().await.expect("loads");
    let gap = |start, end| Gap {
        start,
        end,
        cause: GapCause::LossAccepted,
    };
    assert_eq!(m.gaps, [gap(0, 40), gap(70, 80)]);
    assert_eq!((m.pages.len(), m.entries_end()), (1, Some(70)));
    assert_eq!((m.end_offset(), m.entry_count()), (80, 3));
    // And it goes on.
    let edit = append(80, 90);
    let after = manifests.edit(FENCE, |_| Ok(vec![edit.clone()])).await;
    assert_eq!(after.expect("appends").end_offset(), 90);
}

#[tokio::test]
async fn several_may_become_one_and_a_page_below_the_floor_is_not_named() {
    let (manifests, _folder) = tiered(8).await;
    let old = [entry(60, 70), entry(70, 80)];
    let one = ManifestEntry {
        end: 80,
        ..again(&old[0])
    };
    manifests
        .replace(FENCE, &old, std::slice::from_ref(&one), None)
        .await
        .expect("replaces");
    assert_eq!(lookup(&manifests, 75).await, Lookup::Entry(one));
    let manifest = manifests.current().await.expect("loads");
    let page = &manifest.pages[0];
    let stale = PageRef {
        generation: manifest.generation,
        ..page.clone()
    };
    let swept = manifest
        .apply(FENCE, &[Edit::RaiseFloor], [5; 16])
        .expect("raises");
    let replacement = Replacement {
        start: 0,
        end: 10,
        entries: vec![entry(0, 10)],
        gap: None,
        page: Some((page.name(), Some(stale))),
    };
    let refused = swept.apply(FENCE, &[Edit::Replace(replacement)], [6; 16]);
    assert!(matches!(refused, Err(ManifestError::BelowFloor { .. })));
}
