#!/bin/sh
# Opens the disk with the virtual TPM, or with the recovery key, and starts the system on it.
export PATH=/bin LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/cryptsetup

say() { echo "openhgs: $*"; }
# The only way out: a shell here would be a way to the disk for everybody with a console.
stop() {
    say "$*; the machine stops"
    sleep 2
    poweroff -f
}
# The value of openhgs.NAME= on the kernel's command line.
option() { sed -n "s/^\(.* \)\{0,1\}openhgs\.$1=\([^ ]*\).*/\2/p" /proc/cmdline; }

while read -r module; do
    insmod "/modules/$module.ko" 2>/dev/null || say "the module $module is not loaded"
done </modules/order

id=$(option disk)
attempt=0
until disk=$(findfs "UUID=$id" 2>/dev/null); do
    attempt=$((attempt + 1))
    [ "$attempt" -lt 100 ] || stop "there is no disk $id"
    sleep 0.1
done

# A disk that others made could have no encryption at all, and be started with this machine's TPM.
dump=$(cryptsetup luksDump "$disk") || stop "the disk $id is not encrypted"
case $dump in
*cipher_null*) stop "the disk $id is encrypted with the null cipher" ;;
esac

if cryptsetup open --token-only "$disk" root 2>/run/refused; then
    say "the disk is opened by the virtual TPM"
else
    say "the virtual TPM does not open the disk: $(head -n 1 /run/refused)"
    attempt=0
    until cryptsetup open --token-type none --tries 1 "$disk" root; do
        attempt=$((attempt + 1))
        [ "$attempt" -lt 3 ] || stop "the disk stays closed"
    done
    say "the disk is opened by the recovery key"
fi

# The key is not sealed to what runs from here on: TPM2_PCR_Extend of PCR 7 with SHA-256 of "OpenHGS disk opened".
exec 3<>/dev/tpm0 || stop "there is no TPM"
printf '\200\002\000\000\000\101\000\000\001\202\000\000\000\007\000\000\000\011\100\000\000\011\000\000\000\000\000\000\000\000\001\000\013\001\316\146\246\363\141\354\312\262\352\056\167\155\272\263\276\241\216\065\066\073\322\205\167\316\251\204\030\254\261\054\022' >&3
case $(dd bs=4096 count=1 <&3 2>/dev/null | dd bs=1 skip=6 count=4 2>/dev/null | od -An -tx1) in
*"00 00 00 00"*) ;;
*) stop "the TPM does not extend PCR 7" ;;
esac
exec 3>&-

init=$(option init)
mount -o ro /dev/mapper/root /root || stop "the file system on the disk can't be mounted"
for folder in dev proc sys run; do
    mount --move "/$folder" "/root/$folder" || stop "the disk has no folder /$folder"
done
exec switch_root /root "${init:-/sbin/init}"
