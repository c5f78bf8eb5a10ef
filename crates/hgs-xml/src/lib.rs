//! A bounded XML tree without DTD, exclusive canonicalisation and a canonical writer.
