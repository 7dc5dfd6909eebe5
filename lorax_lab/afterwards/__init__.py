"""What is measured of trained runs afterwards, from their files, and published beside a study's lines.

| file | what it makes |
|---|---|
| `trained` | a run's update, read again, and its factors as they were drawn |
| `similarities` | how much of their directions the updates of two runs share, and the directions themselves |
| `amplification` | what an update does with the directions of its base |
| `sets` | the scores of a full update that is cut in some matrices |

Each function takes the runs of one condition and returns rows, which are plain values of JSON.
"""
