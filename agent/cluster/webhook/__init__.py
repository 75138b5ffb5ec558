"""The admission webhook that applies placement rules to new pods. Runs in the cluster; needs no platform to answer."""
