"""A Modbus server by pymodbus, a second opinion beside this repository's own simulated site.

Units 1 to N each have M holding registers and M input registers, from address 0. Every register names the time at which
it was read, so that a checker can tell a stale, swapped or shifted value from a right one:

    holding register r of unit u = (tick + 40503 * r + 24917 * u)         modulo 65536
    input register r of unit u   = (tick + 40503 * r + 24917 * u + 32768) modulo 65536

`tick` is the Unix time in units of 100 ms, taken once for each request: all registers of one answer are of one tick.
A unit that is not served answers with exception 0x04. With `--longest`, reads of more are refused with the exception
`--too-long`; with `--hole`, reads that touch it with exception 0x02.

Prints one line `ready tcp <port>` or `ready rtu <path>` when it can be asked, then with `--trace` a line `request <address>
<count> <exception, 0 for none>` for each read, and ends when its standard input closes, so that it never outlives whoever
started it.
"""

import argparse
import asyncio
import sys
import time
from functools import partial

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

READ_INPUT_REGISTERS = 0x04


async def answer(options, unit, function, start, address, count, registers, written):
    """Sets the registers asked for to the present tick, unless they are too many."""
    if written is not None:
        return None
    if count > options.longest:
        return ExcCodes(options.too_long)
    tick = time.time_ns() // 100_000_000
    base = tick + 24917 * unit + (32768 if function == READ_INPUT_REGISTERS else 0)
    first = address - start
    registers[first : first + count] = [(base + 40503 * r) % 65536 for r in range(address, address + count)]
    return None


def blocks(options):
    """Returns the registers that are there: all but the holes."""
    start = 0
    for first, last in sorted(options.hole) + [(options.registers, options.registers)]:
        if first > start:
            yield SimData(start, count=first - start, datatype=DataType.REGISTERS)
        start = last + 1


class Trace:
    """Prints each read when it is answered."""

    def __init__(self):
        self.asked = None

    def pdu(self, sending, pdu):
        if not sending:
            self.asked = pdu
        elif self.asked is not None:
            print("request", self.asked.address, self.asked.count, getattr(pdu, "exception_code", 0), flush=True)
            self.asked = None
        return pdu


def hole(text):
    first, last = text.split("-")
    return int(first), int(last)


async def serve(options):
    devices = [
        SimDevice(id=unit, simdata=list(blocks(options)), action=partial(answer, options, unit))
        for unit in range(1, options.units + 1)
    ]
    trace = {"trace_pdu": Trace().pdu} if options.trace else {}
    if options.rtu:
        server = ModbusSerialServer(devices, port=options.rtu, baudrate=options.baud, **trace)
        await server.serve_forever(background=True)
        print("ready rtu", options.rtu, flush=True)
    else:
        server = ModbusTcpServer(devices, address=("127.0.0.1", 0), **trace)
        await server.serve_forever(background=True)
        print("ready tcp", server.transport.sockets[0].getsockname()[1], flush=True)
    parent_gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: sys.stdin.buffer.read1() or parent_gone.set())
    await parent_gone.wait()
    await server.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--units", type=int, default=1, help="units, 1 to 247")
    parser.add_argument("--registers", type=int, default=100, help="registers of each table of a unit")
    parser.add_argument("--longest", type=int, default=125, help="most registers of one read")
    parser.add_argument("--too-long", type=int, default=3, help="exception code for a longer one")
    parser.add_argument("--hole", type=hole, action="append", default=[], metavar="FIRST-LAST", help="no registers here")
    parser.add_argument("--trace", action="store_true", help="print each read")
    parser.add_argument("--rtu", metavar="PATH", help="serve RTU on this serial port instead of TCP on a free port")
    parser.add_argument("--baud", type=int, default=9600, help="bits per second, 8N1")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
