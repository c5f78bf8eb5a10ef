//! The header fields of every answer.

/// What a page of the console may load and do: what is here, and nothing else. No script or style stands in a page, and
/// nothing that a script is given as text becomes elements.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// The header fields of every answer but `Cache-Control`, in lower case as the HTTP library takes names.
pub const OF_ALL: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    // `no-referrer` would make browsers send `Origin: null` with the page's own forms.
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    // Pages write to the clipboard, where somebody clicks, and use nothing else of the machine.
    (
        "permissions-policy",
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-write=(self)",
    ),
    // No `Strict-Transport-Security`: browsers take it for all ports of the machine, also of other services there.
];

/// `Cache-Control` of everything that depends on who asks.
pub const NOT_STORED: &str = "no-store";

/// `Cache-Control` of what has the digest of its contents in its name.
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";
