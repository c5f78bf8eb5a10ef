#!/usr/bin/env bash
# debian-packages.sh FOLDER: fetches the packages with the images of the real boots into FOLDER and unpacks them there,
# for the tests in debian.rs:
#   ./debian-packages.sh /tmp/images && OPENHGS_BOOT_FILES=/tmp/images cargo test -p hgs-tcg --test image debian
# Debian keeps old versions at https://snapshot.debian.org.
set -euo pipefail
packages=(
    shim-signed=1.51~1+deb12u1+16.1-2~deb12u1
    shim-unsigned=16.1-2~deb12u1
    grub-efi-amd64-signed=1+2.06+13+deb12u2
    linux-image-6.1.0-56-cloud-amd64=6.1.192-2
    systemd-boot-efi=252.39-1~deb12u2
)
mkdir -p "$1"
cd "$1"
apt-get download "${packages[@]}"
for package in ./*.deb; do dpkg-deb --extract "$package" .; done
