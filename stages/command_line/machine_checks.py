def checks(quick):
    return []
