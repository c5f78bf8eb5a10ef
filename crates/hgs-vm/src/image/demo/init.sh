#!/bin/sh
# The demonstration guest: says what only its opened disk can say, uses its TPM, and powers off when it is told to.
export PATH=/bin
mount -o remount,rw /
exec </dev/console >/dev/console 2>&1
echo "OPENHGS-DEMO $(cat /etc/line)"

for device in /sys/class/input/event*; do
    case $(cat "$device/device/name") in
    "Power Button") button=/dev/input/${device##*/} ;;
    esac
done
(
    dd bs=24 count=1 <"$button" >/dev/null 2>&1 || exit
    echo "OPENHGS-DEMO powers off"
    mount -o remount,ro /
    poweroff -f
) &

# TPM2_GetRandom of eight octets, which stand at the end of the response.
exec 3<>/dev/tpm0
beat=0
while :; do
    printf '\200\001\000\000\000\014\000\000\001\173\000\010' >&3
    random=$(dd bs=4096 count=1 <&3 2>/dev/null | tail -c 8 | od -An -tx1 | tr -d ' \n')
    echo "OPENHGS-DEMO heartbeat $beat tpm $random"
    beat=$((beat + 1))
    sleep 1
done
