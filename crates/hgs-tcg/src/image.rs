//! Images that firmware and loaders measure: PE/COFF, Authenticode digests, sections.
