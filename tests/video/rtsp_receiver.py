"""An RTSP server that takes what is published, FFmpeg's: `python rtsp_receiver.py PORT`.

For each picture it prints width, height and the mean of blue, green and red. After a publisher
has left it waits for the next.
"""

from __future__ import annotations

import sys

import av


def main(port: str) -> None:
    options = {"rtsp_flags": "listen", "listen_timeout": "60", "analyzeduration": "100000"}
    while True:
        print("ready", flush=True)
        try:
            with av.open(f"rtsp://127.0.0.1:{port}/live", options=options) as container:
                for picture in container.decode(video=0):
                    mean = picture.to_ndarray(format="bgr24").mean((0, 1)).round()
                    print(picture.width, picture.height, *mean.astype(int), flush=True)
        except av.FFmpegError:
            continue  # gone without a word, or it was no RTSP


if __name__ == "__main__":
    main(sys.argv[1])
